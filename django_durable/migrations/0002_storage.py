"""How PostgreSQL keeps the two tables whose rows come and go with every run."""

from typing import Any

from django.db import migrations

SETTINGS = {
    # Room on the page for the next version of the row, and a vacuum that does not wait for a fifth of the table.
    "durable_dispatch": "fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000",
    "durable_inboxmessage": "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, "
    "autovacuum_analyze_scale_factor = 0.05",
}


def set_storage(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for table, settings in SETTINGS.items():
            schema_editor.execute(f"ALTER TABLE {table} SET ({settings})")


def reset_storage(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for table, settings in SETTINGS.items():
            names = ", ".join(setting.partition(" = ")[0] for setting in settings.split(", "))
            schema_editor.execute(f"ALTER TABLE {table} RESET ({names})")


class Migration(migrations.Migration):
    dependencies = [("durable", "0001_initial")]

    operations = [migrations.RunPython(set_storage, reset_storage, elidable=False)]
