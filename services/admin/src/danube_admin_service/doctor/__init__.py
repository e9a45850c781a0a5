"""What is wrong with the cluster: the facts, and the rules that judge them."""
