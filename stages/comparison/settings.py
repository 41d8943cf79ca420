"""Parameters of the comparison."""

from pydantic import Field

from stages.settings import Settings


class CompareSettings(Settings):
    """How much the comparison computes and shows; no score depends on it."""

    n_bootstrap: int = Field(
        1000, ge=0, le=100_000, description="resamples of the test images for the 95% intervals; 0: none"
    )
    max_images: int = Field(
        12, ge=0, le=100, description="test images shown, those on which the detectors disagree most first"
    )
    max_classes: int = Field(
        20, ge=1, le=1000, description="classes shown with scores and curves (those with most test objects)"
    )
    picture_px: int = Field(280, ge=64, le=640, description="longest side of a picture, px")
    jpeg_quality: int = Field(75, ge=10, le=95, description="JPEG quality of the pictures")
