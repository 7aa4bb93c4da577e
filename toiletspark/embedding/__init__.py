"""Embed once: every distinct image content gets one stored embedding, commit by commit.

`tasks` carries the work to the cluster; `pipeline` is the work of one task, without Spark. Never
reads labels, never decides.
"""
