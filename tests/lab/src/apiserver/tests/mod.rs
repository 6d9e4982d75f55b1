//! The server, through a client.
