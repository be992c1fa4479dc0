//! An authenticating reverse proxy for the Fluent Commerce GraphQL API.
