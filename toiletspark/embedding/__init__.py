"""Embed once: every distinct image content gets one stored embedding, commit by commit.

Offers `commits.embed_plan`, the ledger of attempts, and where each embedding lies. `tasks` carries
the work to the cluster; `pipeline` is what one task does, without Spark. Never reads labels, never
decides.
"""
