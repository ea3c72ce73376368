"""What other code has blocked is found by an index of its own."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("durable", "0008_paused_workflows")]

    operations = [
        migrations.AddIndex(
            model_name="dispatch",
            index=models.Index(
                condition=models.Q(("blocked_by__isnull", False)),
                fields=["definition", "blocked_by"],
                name="durable_dispatch_blocked",
            ),
        ),
    ]
