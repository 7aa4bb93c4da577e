"""Labels: what people say of images, merged over all sources, and the inputs of training.

Offers the sources (class folders, files, tables), the merge, the labelling queues, and
`training_inputs`. Never imports publishing.
"""
