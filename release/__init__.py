"""What is made for clusters, beside the wheel."""
