from tests.feedback_worlds import database_url, postgres, server_folder

__all__ = ["database_url", "postgres", "server_folder"]
