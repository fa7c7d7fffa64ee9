"""Lines of the kernel's log and what they mean."""

import pytest

from fleet.preflight.kernel import meaning


@pytest.mark.parametrize(
    ("line", "means"),
    [
        ("amdgpu 0000:26:00.0: amdgpu: GPU reset begin!", "GPU resets"),
        ("amdgpu: qcm fence wait loop timeout expired", "a hung scheduler"),
        ("amdgpu 0000:05:00.0: 1 uncorrectable hardware errors detected in umc block", "uncorrectable memory errors"),
        ("[drm:amdgpu_discovery_init] *ERROR* get invalid ip discovery binary signature", "a GPU that did not start"),
        ("AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0013 address=0x0 flags=0x0000]", "IOMMU faults"),
        ("amdgpu: Runlist is getting oversubscribed. Expect reduced ROCm performance.", "two servers on one GPU"),
        ("amdgpu: something else", "GPU trouble"),
    ],
)
def test_lines_get_their_names(line: str, means: str) -> None:
    assert meaning(line) == means
