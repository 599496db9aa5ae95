"""Object detection in the manner of R-CNN with a GoogLeNet backbone."""
