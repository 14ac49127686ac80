"""The roster file: schema, loading, editing, and drift of running agents from it."""
