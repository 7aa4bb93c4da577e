"""How work is started: the Spark session, a job, the trainer's process; the doctor looks first.

Offers: Job, submit; session; the table of harmful Spark settings; doctor.
One table of harmful settings serves the start and the doctor. Imported by jobs alone.
"""
