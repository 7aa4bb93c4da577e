"""Tables: the user's, mapped and checked, and ours; read and written with Spark or without.

A run exists once its manifest does; nothing is overwritten in place. Never decides anything about
images, heads or versions.
"""
