"""What a segmentation is to be trained with, from the data, the memory and the start."""
