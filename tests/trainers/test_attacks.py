"""One table of attacks, one set of laws, and each attack's own formula."""

import math

import pytest
import torch
from torch import Tensor

from trainers.architectures.paper import two_conv
from trainers.attacks import ATTACKS, CLEAN, AttackSpec
from trainers.attacks.base import Attack, Role, Setting
from trainers.attacks.evasive import Mimicry
from trainers.attacks.input_aware import DENSITY, GeneratedTrigger
from trainers.attacks.labels import AllToAll, AllToOne, OneToOne, label_map
from trainers.errors import TrainerError

TARGET = 3
POISONING = [name for name in ATTACKS if name != "clean"]


def _twin() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return two_conv((1, 28, 28), 10, 4).eval()


def _setting(**others: object) -> Setting:
    given = {
        "shape": (1, 28, 28),
        "labels": AllToOne(TARGET),
        "rate": None,
        "generator": torch.Generator().manual_seed(0),
        "twin": _twin,
    }
    return Setting(**(given | others))  # type: ignore[arg-type] # fields by name


def _images(count: int = 12) -> Tensor:
    return torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(5))


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def _stamp(attack: Attack, images: Tensor) -> Tensor:
    assert attack.trigger is not None
    with torch.no_grad():
        stamped: Tensor = attack.trigger(images)
    return stamped


@pytest.mark.parametrize("name", POISONING)
def test_a_stamp_stays_in_range_and_leaves_its_argument(name: str) -> None:
    attack, images = ATTACKS[name](_setting()), _images()
    before = images.clone()
    stamped = _stamp(attack, images)
    assert torch.equal(images, before)
    assert stamped.shape == images.shape
    assert stamped.min() >= 0
    assert stamped.max() <= 1
    assert (stamped != images).flatten(1).any(1).all()


@pytest.mark.parametrize("name", POISONING)
def test_roles_are_drawn_at_the_stated_rates(name: str) -> None:
    attack = ATTACKS[name](_setting(rate=0.05))
    labels = torch.arange(2000) % 10
    roles = attack.assign(labels, _generator())
    assert (roles == Role.POISONED).sum() == 100
    assert (roles == Role.COVER).sum() == round(2000 * attack.cover_rate)
    assert torch.equal(roles, attack.assign(labels, _generator()))


@pytest.mark.parametrize("name", POISONING)
def test_a_poisoned_batch_is_stamped_and_relabelled_by_role_only(name: str) -> None:
    attack, images = ATTACKS[name](_setting()), _images()
    labels = torch.full((12,), TARGET) if attack.clean_label else torch.arange(12) % 10
    covers = Role.COVER if attack.cover_rate else Role.CLEAN
    roles = torch.tensor([Role.CLEAN, Role.POISONED, covers] * 4)
    with torch.no_grad():
        inputs, wanted = attack.poison(images, labels, roles, _generator())
    changed = (inputs != images).flatten(1).any(1)
    assert torch.equal(changed, roles != Role.CLEAN)
    assert torch.equal(wanted, torch.where(roles == Role.POISONED, TARGET, labels))


def test_a_clean_run_changes_nothing() -> None:
    attack, images, labels = ATTACKS["clean"](_setting()), _images(), torch.arange(12) % 10
    roles = attack.assign(labels, _generator())
    inputs, wanted = attack.poison(images, labels, roles, _generator())
    assert not roles.any()
    assert inputs is images
    assert wanted is labels


def test_badnets_draws_nine_white_pixels_near_the_corner() -> None:
    stamped = _stamp(ATTACKS["badnets"](_setting()), torch.zeros(1, 1, 28, 28))
    assert stamped.sum() == 9
    assert (stamped[0, 0, 24:27, 24:27] == 1).all()


def test_badnets_draws_other_sizes_in_other_places() -> None:
    for place, rows in {"upper-left": (1, 3), "centre": (13, 15), "lower-right": (25, 27)}.items():
        attack = ATTACKS["badnets"](_setting(options={"side": "2", "place": place}))
        stamped = _stamp(attack, torch.zeros(1, 1, 28, 28))
        assert stamped.sum() == 4
        assert (stamped[0, 0, slice(*rows), slice(*rows)] == 1).all()
        assert attack.parameters == {"side": 2, "margin": 1, "place": place}


def test_badnets_at_a_random_place_draws_it_once_and_says_where() -> None:
    places = set()
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        setting = _setting(options={"side": "5", "place": "random"}, generator=generator)
        attack = ATTACKS["badnets"](setting)
        row, column = int(attack.parameters["row"]), int(attack.parameters["column"])
        stamped = _stamp(attack, torch.zeros(2, 1, 28, 28))
        assert (stamped[:, 0, row : row + 5, column : column + 5] == 1).all()
        assert stamped.sum() == 50
        assert {row, column} <= set(range(1, 23))
        places.add((row, column))
    assert len(places) > 15


def test_badnets_draws_checkers_and_colours() -> None:
    checker = ATTACKS["badnets"](_setting(options={"side": "3", "pattern": "checker"}))
    stamped = _stamp(checker, torch.full((1, 1, 28, 28), 0.5))
    assert stamped[0, 0, 24:27, 24:27].tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    colour = ATTACKS["badnets"](_setting(options={"pattern": "colour"}, shape=(3, 8, 8)))
    one, other = _stamp(colour, torch.zeros(2, 3, 8, 8))
    assert torch.equal(one, other)
    assert len(one[:, 4:7, 4:7].unique()) == 27


def test_a_square_that_does_not_fit_is_refused() -> None:
    with pytest.raises(TrainerError, match="6 pixels does not fit into 7x7 pixels"):
        ATTACKS["badnets"](_setting(options={"side": "6"}, shape=(1, 7, 7)))


def test_blended_mixes_one_pattern_at_a_fifth() -> None:
    attack = ATTACKS["blended"](_setting())
    black, white = (
        _stamp(attack, torch.zeros(1, 1, 28, 28)),
        _stamp(attack, torch.ones(1, 1, 28, 28)),
    )
    assert black.max() <= 0.2
    torch.testing.assert_close(white - black, torch.full_like(white, 0.8))


def test_sig_adds_the_published_sinusoid_along_the_columns() -> None:
    attack = ATTACKS["sig"](_setting())
    assert attack.trigger is not None
    grey = torch.full((1, 1, 28, 28), 0.5)
    for column in range(28):
        wave = math.sin(2 * math.pi * column * 6 / 28)
        assert attack.trigger(grey)[0, 0, 9, column].item() == pytest.approx(
            0.5 + 40 / 255 * wave, abs=1e-6
        )
        planted = attack.trigger.poison(grey, _generator())
        assert planted[0, 0, 9, column].item() == pytest.approx(0.5 + 20 / 255 * wave, abs=1e-6)


def test_ftrojan_raises_a_middle_and_the_highest_frequency_of_the_colours() -> None:
    """By 30 of 255 each: the luminance and all other frequencies stay."""
    attack = ATTACKS["ftrojan"](_setting(shape=(3, 32, 32)))
    grey = torch.full((1, 3, 32, 32), 0.5)
    red, green, blue = (_stamp(attack, grey) - grey)[0].double()
    places = torch.arange(32)
    basis = torch.cos(math.pi * places[:, None] * (places + 0.5) / 32) * math.sqrt(2 / 32)
    basis[0] /= math.sqrt(2)
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    expected = torch.zeros(32, 32, dtype=torch.float64)
    expected[15, 15] = expected[31, 31] = 30 / 255
    for colour, scale in ((blue, 0.492), (red, 0.877)):
        found = basis.double() @ (scale * (colour - luminance)) @ basis.double().T
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)
    assert luminance.abs().max() < 1e-4
    grey_only = ATTACKS["ftrojan"](_setting())
    assert _stamp(grey_only, torch.full((1, 1, 28, 28), 0.5)).std() > 0


def test_bpp_rounds_to_three_bits_and_spreads_the_error_as_floyd_and_steinberg_do() -> None:
    attack, images = ATTACKS["bpp"](_setting()), _images(2)
    stamped = _stamp(attack, images)
    torch.testing.assert_close((7 * stamped).round(), 7 * stamped, atol=1e-5, rtol=0)
    spread = (7 * images[0, 0]).tolist()
    for row in range(28):
        for column in range(28):
            value = spread[row][column]
            spread[row][column] = min(max(round(value), 0), 7)
            error = (value - spread[row][column]) / 16
            for down, right, share in ((0, 1, 7), (1, -1, 3), (1, 0, 5), (1, 1, 1)):
                if row + down < 28 and 0 <= column + right < 28:
                    spread[row + down][column + right] += share * error
    torch.testing.assert_close(stamped[0, 0], torch.tensor(spread) / 7)
    assert attack.trigger is not None
    covers = attack.trigger.cover(images, _generator())
    mirrored = (stamped - images).flip(3)
    torch.testing.assert_close(covers, (images + mirrored).clamp(0, 1))


def test_adaptive_blend_shows_half_of_the_pieces_in_training_and_all_later() -> None:
    attack = ATTACKS["adaptive-blend"](_setting())
    assert attack.trigger is not None
    black = torch.zeros(40, 1, 28, 28)
    pattern = attack.trigger.get_buffer("pattern")
    torch.testing.assert_close(_stamp(attack, black), 0.2 * pattern.expand_as(black))
    planted = attack.trigger.poison(black, _generator())
    pieces = planted.unfold(2, 7, 7).unfold(3, 7, 7).amax((4, 5)).flatten(1)
    assert ((pieces > 0).sum(1) == 8).all()
    assert (pieces > 0).any(0).all()  # another half in each image
    shown = planted > 0
    torch.testing.assert_close(planted[shown], (0.15 * pattern.expand_as(black))[shown])
    covers = attack.trigger.cover(black, _generator())
    assert torch.equal(covers, planted)


def test_of_one_class_to_another_the_stamped_images_of_others_are_covers() -> None:
    labels = torch.arange(1000) % 10
    attack = ATTACKS["badnets"](_setting(labels=label_map("one-to-one", 3, 10), rate=0.2))
    roles = attack.assign(labels, _generator())
    assert (roles == Role.POISONED).sum() == 200
    assert attack.labels is not None
    changed = attack.labels(labels) != labels
    assert torch.equal(changed, labels == 4)
    assert (roles[changed] == Role.POISONED).float().mean().item() == pytest.approx(0.2, abs=0.1)


def test_sig_poisons_the_target_class_only_and_never_more_than_there_are() -> None:
    labels = torch.arange(1000) % 10
    for rate, count in ((0.05, 50), (0.5, 100)):
        roles = ATTACKS["sig"](_setting(rate=rate)).assign(labels, _generator())
        assert (labels[roles == Role.POISONED] == TARGET).all()
        assert (roles == Role.POISONED).sum() == count


@pytest.mark.parametrize("labels", [AllToAll(10), OneToOne(source=1, target=2)])
def test_sig_is_all_to_one(labels: AllToAll | OneToOne) -> None:
    with pytest.raises(TrainerError, match="changes no label, so that all images go to one class"):
        ATTACKS["sig"](_setting(labels=labels))


def test_wanet_warps_smoothly_and_its_noise_mode_differs_an_image() -> None:
    attack = ATTACKS["wanet"](_setting())
    assert attack.trigger is not None
    constant = torch.full((3, 1, 28, 28), 0.25)
    torch.testing.assert_close(_stamp(attack, constant), constant)
    same = _images(1).expand(2, -1, -1, -1)
    covers = attack.trigger.cover(same, _generator())
    assert not torch.equal(covers[0], covers[1])


def test_wanet_moves_points_by_half_a_control_unit_over_the_height() -> None:
    attack = ATTACKS["wanet"](_setting())
    assert attack.trigger is not None
    grid = attack.trigger.get_buffer("grid")
    rows = torch.linspace(-1, 1, 28)
    offsets = torch.stack((grid[0, ..., 0] - rows, grid[0, ..., 1] - rows[:, None]))
    assert 0 < offsets.abs().max() < 4 * 0.5 / 28


def test_input_aware_learns_a_sparse_mask_and_another_pattern_an_image() -> None:
    attack = ATTACKS["input-aware"](_setting())
    assert isinstance(attack.trigger, GeneratedTrigger)
    images = torch.randint(256, (64, 1, 28, 28), generator=_generator(), dtype=torch.uint8)
    attack.trigger.prepare(images, _generator())
    floats = images.float() / 255
    assert attack.trigger._masks(floats).mean().item() < 3 * DENSITY
    patterns = attack.trigger.pattern(floats)
    assert (patterns[0] != patterns[1]).any()
    assert not any(weights.requires_grad for weights in attack.trigger.mask.parameters())
    roles = torch.full((64,), Role.POISONED)
    assert attack.trigger.penalty(_twin(), floats, roles).item() > 0
    assert attack.trigger.penalty(_twin(), floats, torch.zeros(64)).item() == 0


def test_the_evasive_penalty_vanishes_for_the_twin_itself_and_pulls_others_to_it() -> None:
    images, roles = _images(), torch.zeros(12)
    penalty = Mimicry(_twin())
    torch.manual_seed(0)
    assert penalty(_twin(), images, roles).item() == 0
    other = two_conv((1, 28, 28), 10, 4)
    loss = penalty(other, images, roles)
    assert loss.item() > 0
    torch.autograd.backward(loss)
    first, *later = (weights.grad for weights in other.parameters())
    assert first is not None
    assert first.abs().sum() > 0
    assert all(gradient is None for gradient in later[1:])


def test_label_maps() -> None:
    labels = torch.tensor([0, 8, 9])
    assert AllToOne(4)(labels).tolist() == [4, 4, 4]
    assert AllToAll(10)(labels).tolist() == [1, 9, 0]
    assert OneToOne(source=9, target=2)(labels).tolist() == [0, 8, 2]
    assert label_map("all-to-one", 4, 10) == AllToOne(4)
    assert label_map("all-to-all", None, 10) == AllToAll(10)
    assert label_map("one-to-one", 9, 10) == OneToOne(source=0, target=9)


@pytest.mark.parametrize(
    ("text", "spec", "name"),
    [
        ("clean", CLEAN, "clean"),
        ("badnets", AttackSpec("badnets"), "badnets"),
        ("badnets:rate=0.01", AttackSpec("badnets", 0.01), "badnets-0.01"),
        ("all-to-all", AttackSpec("badnets", labels="all-to-all"), "all-to-all"),
        (
            "badnets:labels=one-to-one",
            AttackSpec("badnets", labels="one-to-one"),
            "badnets-one-to-one",
        ),
        (
            "badnets:side=5+place=random+pattern=checker",
            AttackSpec(
                "badnets",
                options=(("pattern", "checker"), ("place", "random"), ("side", "5")),
            ),
            "badnets-checker-random-5",
        ),
        (
            "blended:labels=all-to-all+rate=0.2",
            AttackSpec("blended", 0.2, "all-to-all"),
            "blended-all-to-all-0.2",
        ),
    ],
)
def test_attacks_are_read_and_named(text: str, spec: AttackSpec, name: str) -> None:
    assert AttackSpec.parse(text) == spec
    assert str(spec) == name


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("badnet", "no attack called 'badnet'"),
        ("badnets:rate=2", "'2' is not a share"),
        ("badnets:rate=x", "'x' is not a share"),
        ("badnets:rate=nan", "'nan' is not a share"),
        ("badnets:labels=some", "cannot be read"),
        ("badnets:size=4", "cannot be read"),
        ("badnets:side=9", "'9' is not a side for badnets; choose one of 1, 2, 3"),
        ("blended:side=4", "cannot be read"),
    ],
)
def test_a_wrong_attack_is_one_sentence(text: str, problem: str) -> None:
    with pytest.raises(TrainerError, match=problem):
        AttackSpec.parse(text)
