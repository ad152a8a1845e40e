"""The jobs that learn from the record: data sets, training, evaluation, releases."""
