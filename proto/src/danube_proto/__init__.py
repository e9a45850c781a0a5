"""Wire messages of the Danube contracts, generated from the .proto files beside it."""
