"""Comparing releases on live subjects: who gets which, what came of it, and what that proves.

numpy and the standard library alone: ranking_svc, which deals and reports, and the jobs, whose guards act on
the same numbers, have to agree.
"""
