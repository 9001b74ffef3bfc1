import pytest

from whatwhere.errors import InputError
from whatwhere.lab.resources import Resources, check_engine


@pytest.mark.parametrize("engine", [None, object(), "ray", "ray:host:6379", "ray:ray://host:10001", "slurm"])
def test_engines_that_are_known(engine: object) -> None:
    check_engine(engine, 0, Resources())


def test_resources_that_go_with_their_engine() -> None:
    for gpus in (0.25, 1, 2):
        check_engine("ray", 0, Resources(cpus_per_cell=2, gpus_per_cell=gpus, memory_per_cell=0.5), kept=False)
    jobs = Resources(gpus_per_cell=1, hours=0.5, partition="gpu", slurm=("account=lab", "--qos=long"))
    for engine in ("slurm", "submitit-local", "submitit-debug"):
        check_engine(engine, 0, jobs)
    assert jobs.options == {"account": "lab", "qos": "long"}
    assert jobs.given().keys() == {"gpus_per_cell", "hours", "partition", "slurm"}


@pytest.mark.parametrize(
    ("engine", "workers", "resources", "message"),
    [
        ("slrum", 0, {}, "engine='slrum' matches nothing. Did you mean 'slurm'"),
        ("dask", 0, {}, "Choices: ray, slurm, submitit-local, submitit-debug, ray:ADDRESS"),
        (
            "slurm:gpu",
            0,
            {},
            "engine='slurm:gpu': only Ray takes an address, as ray:HOST:PORT; else give 'slurm' alone",
        ),
        ("ray:", 0, {}, "engine='ray:': only Ray takes an address"),
        ("ray", 2, {}, "workers=2 and engine='ray': give one of them"),
        (None, 2, {"gpus_per_cell": 1}, "gpus_per_cell=1 goes with engine=ray or engine=slurm; add one"),
        (object(), 0, {"partition": "gpu"}, "partition='gpu' goes with"),
        ("ray", 0, {"partition": "gpu"}, "partition='gpu' goes with engine=slurm, not 'ray'; leave it out"),
        ("ray:a:1", 0, {"hours": 2}, "hours=2 goes with engine=slurm"),
        ("ray", 0, {"cpus_per_cell": 0}, "cpus_per_cell=0: give 1 or more"),
        ("ray", 0, {"gpus_per_cell": -1}, "gpus_per_cell=-1: give 0 or more"),
        ("ray", 0, {"gpus_per_cell": 1.5}, "gpus_per_cell=1.5: give a whole number; Ray alone shares one GPU"),
        ("slurm", 0, {"gpus_per_cell": 0.5}, "gpus_per_cell=0.5: give a whole number"),
        ("slurm", 0, {"hours": 0}, "hours=0: give 0.01 or more"),
        ("slurm", 0, {"memory_per_cell": float("nan")}, "memory_per_cell=nan: give"),
        ("ray", 0, {"device": "cuda"}, "device='cuda' with engine='ray': cells get no GPU; give gpus_per_cell=1"),
        ("slurm", 0, {"slurm": ("account",)}, "slurm='account' must be NAME=VALUE, such as account=lab"),
    ],
)
def test_what_cannot_be_says_what_to_give(engine: object, workers: int, resources: dict, message: str) -> None:
    device = resources.get("device", "auto")
    with pytest.raises(InputError) as seen:
        check_engine(engine, workers, Resources(**{k: v for k, v in resources.items() if k != "device"}), device=device)
    assert message in str(seen.value)


def test_jobs_need_a_folder() -> None:
    check_engine("ray", 0, Resources(), kept=False)
    with pytest.raises(InputError, match=r"engine='slurm' needs out=FOLDER, a folder that the nodes see as well"):
        check_engine("slurm", 0, Resources(), kept=False)
