"""Applies heads to stored embeddings: reads no image, imports no torch.

Offers `tasks.score_images` and the runs of scores. `tasks` carries the work to the cluster;
`pipeline` is what one task does, without Spark. Never reads labels, never decides.
"""
