"""Tables, pages and figures of finished runs; they read results alone, and need no JAX."""
