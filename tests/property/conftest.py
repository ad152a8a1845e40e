from tests.feedback_worlds import database_url, postgres

__all__ = ["database_url", "postgres"]
