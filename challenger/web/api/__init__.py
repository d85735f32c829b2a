"""The API below ``/api/v1``: one table of routes, which the handlers check requests by and OpenAPI is printed from."""
