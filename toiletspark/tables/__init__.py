"""Tables: the user's (mapped and checked) and ours (schemas, runs, manifests), and how they are
written.

Offers: table schemas; Store, Run, Manifest; reading and writing with Spark or with pyarrow alone;
Workspace. A run exists once its manifest does; nothing is overwritten in place.
Never decides anything about images, heads or versions.
"""
