import ale_py
import gymnasium as gym
import pytest

from agentwrap import __version__, known
from agentwrap.identity import Identity


@pytest.mark.parametrize(
    "env_id", ["CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1", "Acrobot-v1"]
)
def test_gymnasiums_classics_have_names_for_all_they_observe_and_do(env_id):
    env = gym.make(env_id)
    identity = Identity(env)
    assert identity.feature_names is not None
    assert len(identity.feature_names) == env.observation_space.shape[0]
    actions = env.action_space.n if isinstance(env.action_space, gym.spaces.Discrete) else env.action_space.shape[0]
    assert len(identity.action_meanings) == actions


def test_numbers_of_a_tuple_are_named_as_a_vector_is():
    env = gym.make("Blackjack-v1")
    assert Identity(env).feature_names == ("player's sum", "dealer's card", "usable ace")
    assert Identity(env, feature_names=("sum", "card", "ace")).feature_names == ("sum", "card", "ace")


def test_tables_hold_different_names():
    for names in (*known.FEATURES.values(), *known.ACTIONS.values()):
        assert len(set(names)) == len(names)


def test_atari_says_itself_what_its_actions_mean():
    gym.register_envs(ale_py)
    with gym.make("ALE/Enduro-v5") as env:
        identity = Identity(env)
    assert identity.env_id == "ALE/Enduro-v5"
    assert identity.action_meanings[:3] == ("NOOP", "FIRE", "RIGHT")
    assert identity.feature_names is None
    assert identity.software["agentwrap"] == __version__
    assert identity.software["ale_py"]


def test_names_that_do_not_fit_are_not_used():
    class Renamed(gym.Env):
        observation_space = gym.spaces.Box(-1, 1, (3,))
        action_space = gym.spaces.Discrete(3)

        def get_action_meanings(self):
            return ["only one"]

    identity = Identity(Renamed())
    assert (identity.env_id, identity.name) == ("Renamed", "Renamed")
    assert identity.action_meanings is None


@pytest.mark.parametrize(
    ("env_id", "feature", "action"),
    [
        ("Hopper-v5", {0: "rootz", 2: "thigh_joint", 5: "rootx velocity", 10: "foot_joint velocity"}, "thigh_joint"),
        ("InvertedPendulum-v5", {0: "slider", 1: "hinge", 3: "hinge velocity"}, "slide"),
        ("Ant-v5", {0: "root 2", 5: "hip_1", 13: "root 0 velocity", 27: "cfrc_ext 0"}, "hip_4"),
    ],
)
def test_mujocos_model_names_what_is_observed_and_done(env_id, feature, action):
    pytest.importorskip("mujoco")
    with gym.make(env_id) as env:
        identity = Identity(env)
        assert len(identity.feature_names) == env.observation_space.shape[0]
        assert len(identity.action_meanings) == env.action_space.shape[0]
    assert {index: identity.feature_names[index] for index in feature} == feature
    assert identity.action_meanings[0] == action


def test_names_of_an_environments_own_are_those_shown():
    class Named(gym.Env):
        observation_space, action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.MultiBinary(2)
        feature_names = ["near", "far"]

        def get_action_meanings(self):
            return ["lamp", "horn"]

    env = gym.wrappers.TimeLimit(Named(), 5)
    assert Identity(env).feature_names == ("near", "far") and Identity(env).action_meanings == ("lamp", "horn")
    assert Identity(env, action_meanings=("a", "b")).action_meanings == ("a", "b")
    with pytest.raises(ValueError, match="action_meanings: 1 names, but the environment has 2"):
        Identity(env, action_meanings=("a",))
    Named.feature_names = property(lambda self: 1 / 0)
    assert Identity(env).feature_names is None


def test_an_id_is_taken_apart():
    assert known.family("ALE/Enduro-v5") == "Enduro"
    assert known.family("LunarLander-v3") == "LunarLander"
    assert known.family("Custom") == "Custom"


def test_features_of_a_dict_are_those_of_its_vectors_in_the_spaces_order():
    box = gym.spaces.Box(-1, 1, (2,))
    parts = {
        "wheels": gym.spaces.Tuple((box, gym.spaces.Discrete(3))),
        "eye": gym.spaces.Box(0, 255, (8, 8)),
        "body": box,
    }
    env = gym.Env()
    env.observation_space, env.action_space = gym.spaces.Dict(parts), gym.spaces.Discrete(2)
    names = ("x", "y", "left", "right")
    assert Identity(env, feature_names=names).feature_names == names
    with pytest.raises(ValueError, match="feature_names: 2 names, but the environment has 4"):
        Identity(env, feature_names=names[:2])
