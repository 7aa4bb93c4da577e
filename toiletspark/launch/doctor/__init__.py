"""What is wrong with the cluster at hand, before it works for hours: observed by Spark, judged without it.

`visit` observes into one `observed.Observed` (`rounds`: executors, by a probe; `images`: hosts; `output`: the output
root). `checks` lists one small function per fault, which take that and yield findings, and know nothing of Spark.
`telling` prints them, the most harmful first, with the submit line that follows from them (`submit_line`).
"""
