"""What can be asked of the generator."""

from dataclasses import dataclass, fields

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPLITS = ("train", "test")


@dataclass(frozen=True)
class SceneOptions:
    """How many scenes and crops, how large, and how hard. Probabilities are per object unless said otherwise."""

    seed: int = 0
    n_train: int = 160  # scenes
    n_test: int = 80
    width_px: int = 320
    height_px: int = 240
    objects_min: int = 2  # digits per scene
    objects_max: int = 6
    object_min_px: int = 28  # height of the upright digit before rotation and shear, drawn log-uniformly
    object_max_px: int = 110
    distractors_min: int = 2  # non-digits per scene, behind and between the digits
    distractors_max: int = 6
    plate_probability: float = 0.25  # the digit stands on a plain tile
    outline_probability: float = 0.25
    texture_probability: float = 0.2  # filled with a pattern of two colours or with a photograph
    translucent_probability: float = 0.15
    smear_probability: float = 0.15  # a shape of nearly its colour lies behind part of the digit
    blur_probability: float = 0.2
    occlusion_probability: float = 0.2  # something is laid over part of the digit
    truncation_probability: float = 0.08  # part of the digit lies outside the image
    low_contrast_probability: float = 0.05  # makes the object `difficult`
    classification_train: int = 4000  # crops of the classification set
    classification_val: int = 400
    classification_px: int = 72  # side of a crop; larger than the network's 64 px, for random crops

    def validate(self) -> list[str]:
        """One line per problem; empty if scenes can be made."""
        problems = [
            f"scenes.{low} = {getattr(self, low)} is above scenes.{high} = {getattr(self, high)}: swap them"
            for low, high in (
                ("objects_min", "objects_max"),
                ("object_min_px", "object_max_px"),
                ("distractors_min", "distractors_max"),
            )
            if getattr(self, low) > getattr(self, high)
        ]
        if self.object_max_px * 2 > min(self.width_px, self.height_px):
            problems.append(
                f"scenes.object_max_px = {self.object_max_px} is more than half the scene's shorter side "
                f"({min(self.width_px, self.height_px)} px): lower it or enlarge the scenes"
            )
        for name in (f.name for f in fields(self) if f.name.endswith("_probability")):
            if not 0 <= getattr(self, name) <= 1:
                problems.append(f"scenes.{name} = {getattr(self, name)} is no probability: use 0 to 1")
        return problems
