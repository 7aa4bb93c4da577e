"""Labels: what people say of images, merged over all sources, and what training is given.

Offers the sources (class folders, files, tables), the merge, the labelling queues, and the inputs
of training (`training_inputs`). A labeller's newer label replaces the older one; contradictions are
listed. Never imports publishing.
"""
