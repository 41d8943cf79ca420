"""Parameters of the report stage."""

from pydantic import Field

from stages.settings import Settings


class ReportSettings(Settings):
    """How much the page shows; no score depends on it."""

    max_examples: int = Field(
        180, ge=0, le=2000, description="pictures of right, wrong and missed objects, all classes together"
    )
    max_classes: int = Field(
        20, ge=1, le=1000, description="classes shown with curves and pictures (those with most test objects)"
    )
    random_images: int = Field(8, ge=0, le=100, description="whole test images shown, drawn by the seed")
    picture_px: int = Field(280, ge=64, le=640, description="longest side of a picture, px")
    jpeg_quality: int = Field(75, ge=10, le=95, description="JPEG quality of the pictures")
