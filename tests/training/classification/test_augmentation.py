"""Training patches and distorted colours: their ranges, and that one key draws one picture."""

from dataclasses import astuple

import cv2
import numpy as np
import pytest

from detector.errors import ParameterError
from detector.io.decoding import RGB
from training.classification.augmentation import (
    INTERPOLATIONS,
    ColorJitter,
    Patch,
    PatchSettings,
    cut,
    draw_patch,
    generator,
    jitter_color,
)

DRAWS = 2000
PAPERS = PatchSettings()
PLAIN = ColorJitter(amount=0, lighting=0)


def drawn(width: int, height: int, settings: PatchSettings = PAPERS, **more: bool) -> list[Patch]:
    return [draw_patch(width, height, settings, generator(0, 0, index), **more) for index in range(DRAWS)]


def noise(height: int, width: int) -> RGB:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("width", "height", "settings"),
    [
        pytest.param(500, 375, PatchSettings(), id="the paper's, on a usual photograph"),
        pytest.param(375, 500, PatchSettings(), id="upright"),
        pytest.param(300, 300, PatchSettings(0.5, 0.6, 1.0), id="squares of about half the area"),
        pytest.param(400, 400, PatchSettings(0.08, 1.0, 2.0), id="a wider range of aspects"),
    ],
)
def test_area_and_aspect_keep_their_ranges(width: int, height: int, settings: PatchSettings) -> None:
    patches = drawn(width, height, settings)
    sides = np.array([(p.x2 - p.x1, p.y2 - p.y1) for p in patches], float)
    assert all(0 <= p.x1 < p.x2 <= width and 0 <= p.y1 < p.y2 <= height for p in patches)
    area = sides.prod(axis=1) / (width * height)
    assert settings.least - 0.01 < area.min() < settings.least + 0.05
    assert settings.most - 0.05 < area.max() <= settings.most + 0.01
    aspect = sides[:, 0] / sides[:, 1]
    assert 1 / settings.aspect - 0.02 < aspect.min()
    assert aspect.max() < settings.aspect + 0.02
    # Little taller or wider on the whole: only what does not fit a picture that is itself wide or tall.
    assert np.log(aspect).mean() == pytest.approx(0, abs=0.06)


def test_areas_are_spread_evenly() -> None:
    """On a square, where nearly every draw fits, each tenth of the range up to 0.75 has its share."""
    area = [(p.x2 - p.x1) * (p.y2 - p.y1) / 1000**2 for p in drawn(1000, 1000)]
    counts, _ = np.histogram(area, bins=np.linspace(0.08, 0.75, 8))
    assert counts.min() > 0.8 * counts.mean()
    assert counts.max() < 1.2 * counts.mean()


@pytest.mark.parametrize(
    ("width", "height", "sides"),
    [
        pytest.param(2000, 100, (133, 100), id="a strip: its height, and the widest aspect of it"),
        pytest.param(100, 2000, (100, 133), id="a tower"),
        pytest.param(1, 1, (1, 1), id="one pixel"),
        pytest.param(1, 50, (1, 1), id="one column"),
    ],
)
def test_a_picture_that_few_patches_fit(width: int, height: int, sides: tuple[int, int]) -> None:
    """The largest part of an allowed aspect, from anywhere."""
    patches = drawn(width, height, PatchSettings(least=0.9, most=1.0))
    assert {(p.x2 - p.x1, p.y2 - p.y1) for p in patches} == {sides}
    places = {(p.x1, p.y1) for p in patches}
    assert len(places) > 0.5 * (width - sides[0] + 1) * (height - sides[1] + 1)


@pytest.mark.parametrize(
    ("settings", "share"),
    [(PatchSettings(), 0.5), (PatchSettings(mirrored=0), 0), (PatchSettings(mirrored=1), 1)],
)
def test_how_many_are_mirrored(settings: PatchSettings, share: float) -> None:
    found = np.mean([patch.mirrored for patch in drawn(100, 100, settings)])
    assert found == pytest.approx(share, abs=0.05 if 0 < share < 1 else 0)


def test_interpolation_is_bilinear_or_one_of_four_alike_often() -> None:
    assert {patch.interpolation for patch in drawn(100, 100)} == {cv2.INTER_LINEAR}
    found = [patch.interpolation for patch in drawn(100, 100, random_interpolation=True)]
    for method in INTERPOLATIONS:
        assert found.count(method) == pytest.approx(DRAWS / 4, rel=0.15)


def test_interpolation_changes_nothing_else() -> None:
    """Beginning it in the middle of a run leaves what is seen of each picture as it would have been."""
    bilinear, random = drawn(90, 120), drawn(90, 120, random_interpolation=True)
    assert [astuple(patch)[:5] for patch in bilinear] == [astuple(patch)[:5] for patch in random]


@pytest.mark.parametrize(
    "settings",
    [{"least": 0.0}, {"least": 0.9, "most": 0.5}, {"most": 1.1}, {"aspect": 0.75}, {"mirrored": 1.5}],
    ids=str,
)
def test_settings_that_make_no_patch(settings: dict[str, float]) -> None:
    with pytest.raises(ParameterError, match="a patch needs"):
        PatchSettings(**settings)


def test_the_whole_at_its_own_size_is_the_picture() -> None:
    image = noise(32, 32)
    assert np.array_equal(cut(image, Patch(0, 0, 32, 32), 32), image)
    assert np.array_equal(cut(image, Patch(0, 0, 32, 32, mirrored=True), 32), image[:, ::-1])


@pytest.mark.parametrize("method", INTERPOLATIONS)
@pytest.mark.parametrize("sides", [(7, 5), (64, 48), (130, 200)])
def test_a_patch_shows_its_own_pixels(sides: tuple[int, int], method: int) -> None:
    """Left half red, right half blue, and what lies around it, white, is not seen."""
    width, height = sides
    image = np.full((height + 20, width + 20, 3), 255, np.uint8)
    image[10:-10, 10:-10] = (200, 0, 0)
    image[10:-10, 10 + width // 2 : -10] = (0, 0, 200)
    seen = cut(image, Patch(10, 10, 10 + width, 10 + height, interpolation=method), 32)
    assert seen.shape == (32, 32, 3)
    assert seen[..., 1].max() == 0
    assert (seen[:, :4] == (200, 0, 0)).all()
    assert (seen[:, -4:] == (0, 0, 200)).all()


@pytest.mark.parametrize("method", INTERPOLATIONS)
def test_a_large_picture_is_not_aliased(method: int) -> None:
    """Stripes one pixel wide, eight times too fine: grey, whatever the interpolation."""
    image = np.zeros((256, 256, 3), np.uint8)
    image[:, ::2] = 255
    seen = cut(image, Patch(0, 0, 256, 256, interpolation=method), 32)
    assert np.abs(seen.astype(int) - 128).max() <= 1


@pytest.mark.parametrize("patch", [Patch(0, 0, 11, 5), Patch(-1, 0, 5, 5), Patch(3, 3, 3, 5)], ids=str)
def test_a_patch_outside_is_refused(patch: Patch) -> None:
    with pytest.raises(ParameterError, match="does not lie in a picture of 10x10"):
        cut(noise(10, 10), patch, 8)


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_only_pictures_are_taken(image: RGB) -> None:
    with pytest.raises(ParameterError, match="a picture must be uint8"):
        cut(image, Patch(0, 0, 4, 4), 8)
    with pytest.raises(ParameterError, match="a picture must be uint8"):
        jitter_color(image, ColorJitter(), generator(0))


def test_distorting_by_nothing_is_the_picture() -> None:
    image = noise(20, 30)
    assert np.array_equal(jitter_color(image, PLAIN, generator(0)), image)


@pytest.mark.parametrize(
    ("settings", "reach"),
    [
        pytest.param(ColorJitter(amount=0.5, lighting=0), (0.5, 1.5), id="Howard's range"),
        pytest.param(ColorJitter(amount=0.1, lighting=0), (0.9, 1.1), id="a gentle one"),
    ],
)
def test_brightness_keeps_its_range(settings: ColorJitter, reach: tuple[float, float]) -> None:
    """Of a plain grey picture contrast and colour change nothing: what is left is brightness."""
    grey = np.full((4, 4, 3), 100, np.uint8)
    found = np.array([jitter_color(grey, settings, generator(index)).mean() / 100 for index in range(500)])
    (low, high), step = reach, 0.011  # of a grey level in 100
    assert low - step <= found.min() < low + step + 0.02 * (high - low)
    assert high - step - 0.02 * (high - low) < found.max() <= high + step
    assert found.mean() == pytest.approx(1, abs=0.05)


def test_contrast_colour_and_their_order_vary() -> None:
    """Each of 50 keys makes another picture; spread and saturation go both ways."""
    image = noise(24, 24) // 2 + 40
    made = [jitter_color(image, ColorJitter(lighting=0), generator(index)) for index in range(50)]
    assert len({picture.tobytes() for picture in made}) == 50
    saturation = [np.ptp(picture.astype(float), axis=2).mean() for picture in [image, *made]]
    spread = [picture.mean(axis=2).std() / picture.mean() for picture in [image, *made]]
    for first, *others in (saturation, spread):
        assert min(others) < 0.8 * first
        assert max(others) > 1.2 * first


def test_light_moves_all_of_a_picture_alike() -> None:
    grey = np.full((4, 4, 3), 128, np.uint8)
    gained = np.array(
        [jitter_color(grey, ColorJitter(0, 0.1), generator(index))[0, 0] - 128.0 for index in range(500)]
    )
    # 0.1 of the first component's 55 grey levels, of which each channel has about 0.58
    assert gained.std(axis=0) == pytest.approx([3.2, 3.2, 3.2], abs=0.4)
    assert np.corrcoef(gained.T).min() > 0.9, "light comes and goes in all three channels"


def test_one_key_one_picture() -> None:
    """The same on every call, another for every part of the key, and the original stays as it was."""
    image = noise(60, 80)
    before = image.copy()

    def make(*key: int) -> bytes:
        rng = generator(*key)
        patch = draw_patch(80, 60, PatchSettings(), rng, random_interpolation=True)
        return jitter_color(cut(image, patch, 32), ColorJitter(), rng).tobytes()

    assert make(1, 2, 3) == make(1, 2, 3)
    assert len({make(1, 2, 3), make(1, 3, 2), make(2, 2, 3), make(1, 2, 4)}) == 4
    assert np.array_equal(image, before)


@pytest.mark.parametrize("settings", [{"amount": 1.5}, {"amount": -0.1}, {"lighting": -1.0}], ids=str)
def test_settings_that_make_no_distortion(settings: dict[str, float]) -> None:
    with pytest.raises(ParameterError, match="a distortion needs"):
        ColorJitter(**settings)
