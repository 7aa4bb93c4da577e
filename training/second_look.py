"""Ranks labels by doubt: `python -m training.second_look --conf-file mytables.toml`.

Single node, no Spark, no Java; `toiletspark labels second-look` gathers labels on the cluster.
"""

from toiletspark.config import command_line, loading
from toiletspark.config.command_line import AsJson, ConfFiles, Sets
from toiletspark.tables import failures
from toiletspark.training.train import require_extra


def main(conf: ConfFiles = [], sets: Sets = [], as_json: AsJson = False) -> None:
    """Ranks the labels that are most likely wrong."""
    with command_line.reported_errors():
        require_extra(doing="looking for doubtful labels")
        from toiletspark.training.label_doubts import second_look

        config = loading.load(conf, sets)
        with failures.explained(config, "second_look"):
            summary = second_look(config)
    command_line.show(summary, as_json)


if __name__ == "__main__":
    command_line.run_program(main)
