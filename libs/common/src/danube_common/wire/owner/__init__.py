"""The owner protocol: a module for each noun holds its requests and their answers, `protocol` the whole."""
