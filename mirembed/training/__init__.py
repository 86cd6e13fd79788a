"""Training a network: excerpts, label vectors, the loss, the loop, and the engines that compute the network."""
