"""Looks for faults of a cluster before it works for hours: observed by Spark, judged without it.

`visit` observes: `executors` asks every executor (`probe` runs there), `surroundings` tries the
image hosts and the output root. The checks turn `observed.Observed` into findings, without Spark.
`report` prints them, the most harmful first, with the spark-submit line that follows from them.
"""
