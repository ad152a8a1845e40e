"""Between domain code and the wire: servers, channels, errors, deadlines, validation, conversion."""
