"""What MariaDB needs for itself: rows that only locks are for, and indexes in place of the partial ones."""

from typing import Any

from django.db import migrations, models

INDEXES = {
    # It ignores the condition of an index: what somebody has stands among what waits, unless that comes first.
    "durable_dispatch_open": ("durable_dispatch", "owner, queue, priority, wakeup_at"),
    "durable_dispatch_let_in": ("durable_dispatch", "admitted, queue, partition_key"),
    "durable_task_let_in": ("durable_activitytask", "admitted, queue, partition_key"),
    "durable_task_open": ("durable_activitytask", "worker, queue, priority, due_at"),
    "durable_task_limits": ("durable_activitytask", "worker, expires_at"),
    "durable_task_starts": ("durable_activitytask", "worker, start_before"),
}


def add_indexes(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "mysql":
        for name, (table, columns) in INDEXES.items():
            schema_editor.execute(f"CREATE INDEX {name} ON {table} ({columns})")


def remove_indexes(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "mysql":
        for name, (table, _) in INDEXES.items():
            schema_editor.execute(f"DROP INDEX {name} ON {table}")


class Migration(migrations.Migration):
    dependencies = [("durable", "0013_singletons")]

    operations = [
        migrations.CreateModel(
            name="WorkerFence",
            fields=[
                ("worker", models.BigIntegerField(primary_key=True, serialize=False)),
                ("dead", models.BooleanField(default=False)),
            ],
        ),
        migrations.CreateModel(
            name="Gate",
            fields=[("chain_id", models.UUIDField(primary_key=True, serialize=False))],
        ),
        migrations.RunPython(add_indexes, remove_indexes, atomic=False, elidable=False),
    ]
