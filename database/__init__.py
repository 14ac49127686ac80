"""The register: tables, migrations and queries. No decisions are taken here."""
