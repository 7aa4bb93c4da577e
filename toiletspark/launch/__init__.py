"""Starts work: the Spark session, a job, the process of the trainer; the doctor checks first.

Offers: Job, submit; session; the table of harmful Spark settings; doctor.
One table of harmful settings serves the start and the doctor. Imported by jobs alone.
"""
