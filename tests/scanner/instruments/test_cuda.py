"""Why no CUDA device is usable, in simulated states of an installation."""

import pytest

from scanner.instruments.cuda import Facts, failed_libraries, installed, obstacle

GPU = {"onnxruntime-gpu": "1.32.0"}
NO_FILE = "cannot open shared object file: No such file or directory"
# What `onnxruntime.preload_dlls` prints where a package's file is broken and the system has none,
# and where the system has one.
PRINTED = f"""\
Failed to load /venv/nvidia/cu13/lib/libcublas.so.13: file too short
Failed to load /venv/nvidia/cu13/lib/libcudart.so.13: file too short
Failed to load libcudart.so.13: libcudart.so.13: {NO_FILE}
Please follow https://onnxruntime.ai/docs/install/#cuda-and-cudnn to install CUDA.
"""


def test_the_libraries_that_failed_are_named() -> None:
    assert failed_libraries(PRINTED) == {"libcudart.so.13": NO_FILE}
    assert failed_libraries("Failed to load cublas64_13.dll: Could not find module\r\n") == {
        "cublas64_13.dll": "Could not find module"
    }
    assert failed_libraries("") == {}


@pytest.mark.parametrize(
    ("facts", "problem", "remedy"),
    [
        (
            Facts(runtimes={"onnxruntime": "1.32.0"}, built=False),
            "CUDA is not in this ONNX Runtime (onnxruntime 1.32.0)",
            "install overactivation[gpu] in place of overactivation[cpu]",
        ),
        (
            Facts(runtimes={"onnxruntime": "1.32.0", **GPU}, built=False),
            "onnxruntime and onnxruntime-gpu are both installed",
            "uninstall both",
        ),
        (
            Facts(runtimes=GPU, built=True, printed=PRINTED),
            f"libraries of CUDA do not load: libcudart.so.13 ({NO_FILE})",
            "install overactivation[gpu] again",
        ),
        (
            Facts(runtimes=GPU, built=True, cudnn=f"libcudnn.so.9: {NO_FILE}", driver="no driver"),
            f"cuDNN (libcudnn.so.9: {NO_FILE}); nor does the NVIDIA driver (no driver)",
            "install overactivation[gpu] again",
        ),
        (
            Facts(runtimes=GPU, built=True, driver=f"libcuda.so.1: {NO_FILE}"),
            f"the NVIDIA driver does not load: libcuda.so.1: {NO_FILE}",
            "install the driver on a machine with an NVIDIA GPU",
        ),
        (
            Facts(runtimes=GPU, built=True),
            "the driver sees no GPU",
            "check that nvidia-smi lists one",
        ),
        (
            Facts(runtimes=GPU, built=True, error=100),
            "the driver sees no GPU",
            "check that nvidia-smi lists one",
        ),
        (
            Facts(runtimes=GPU, built=True, error=304),
            "does not start (cuInit: error 304)",
            "check that nvidia-smi works",
        ),
        (
            Facts(runtimes=GPU, built=True, trial="no right"),
            "no model runs on the GPU in the process that opens models (no right)",
            "for models that you trust, turn on the setting `unconfined`",
        ),
    ],
)
def test_each_state_has_its_obstacle(facts: Facts, problem: str, remedy: str) -> None:
    found = obstacle(facts)
    assert problem in found.problem
    assert found.remedy.startswith(remedy)
    assert found.remedy.endswith("give the setting `device` the value 'cpu'")


def test_with_the_gpu_extra_and_no_gpu_nobody_is_told_to_install_it() -> None:
    for driver in ("libcuda.so.1 is missing", None):
        found = obstacle(Facts(runtimes=GPU, built=True, driver=driver))
        assert "overactivation[gpu]" not in found.remedy


def test_a_gpu_that_is_seen_is_not_said_to_be_missing() -> None:
    found = obstacle(Facts(runtimes=GPU, built=True, version="13.0"), seen=True)
    assert "sees no GPU" not in found.problem
    assert "new enough for this ONNX Runtime (CUDA 13.0)" in found.remedy


def test_what_is_installed_is_said() -> None:
    assert installed(Facts(runtimes=GPU, built=True, version="13.0")) == (
        "onnxruntime-gpu 1.32.0, built with a CUDA provider (CUDA 13.0)"
    )
    assert installed(Facts(runtimes={}, built=False)) == (
        "not in this ONNX Runtime (of unknown origin)"
    )
