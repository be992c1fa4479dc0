use proptest::prelude::*;
use tokio::time::Instant;

use super::super::script::{Script, Step, data, drain, poll};
use super::super::{RequestBody, TapeLimits};
use super::*;

const LIMITS: BodyLimits = BodyLimits {
    max_body: None,
    timeout: Duration::from_secs(30),
};

fn budget(request: usize, total: usize) -> TapeBudget {
    TapeBudget::new(TapeLimits { request, total })
}

fn record(script: Script) -> (Recorder<Script>, Recording, TapeBudget) {
    let budget = budget(1024, 4096);
    let (recorder, recording) = Recorder::new(script, LIMITS, &budget);
    (recorder, recording, budget)
}

fn played(tape: Tape) -> Vec<u8> {
    let mut replay = tape.play();
    let hint = replay.size_hint().exact().unwrap();
    let (bytes, error) = drain(&mut replay);
    assert_eq!((bytes.len() as u64, error), (hint, None));
    assert_eq!(replay.size_hint().exact(), Some(0));
    bytes
}

#[test]
fn law_1_both_attempts_get_what_the_caller_sent() {
    let (mut recorder, recording, budget) = record(Script::of(&["{\"query\":", "", "\"{me{id}}\"", "}"]));
    assert_eq!(recording.outcome(), Outcome::InProgress);
    let (first, error) = drain(&mut recorder);
    assert_eq!((error, recording.outcome()), (None, Outcome::Finished));
    assert_eq!(first, b"{\"query\":\"{me{id}}\"}");
    let tape = recording.take_tape().unwrap();
    assert_eq!((tape.len(), &*tape.contents()), (first.len(), &*first));
    assert!(recording.take_tape().is_none());
    assert!(budget.used() > 0);
    assert_eq!(played(tape), first);
    assert_eq!(budget.used(), 0);
}

#[test]
fn law_1_frames_pass_uncopied() {
    let sent = Bytes::from(vec![7; 100]);
    let (mut recorder, _recording, _) = record(Script::new([Step::Data(sent.clone())]));
    let Poll::Ready(Some(Ok(frame))) = poll(&mut recorder) else {
        panic!("a frame is at hand")
    };
    assert_eq!(frame.into_data().unwrap().as_ptr(), sent.as_ptr());
}

#[test]
fn a_tally_tells_what_has_come_so_far_and_outlives_the_body() {
    let (mut recorder, _recording, _) = record(Script::of(&["ab", "c"]));
    let tally = recorder.tally();
    assert_eq!(tally.bytes(), 0);
    assert!(poll(&mut recorder).is_ready());
    assert_eq!(tally.bytes(), 2);
    drain(&mut recorder);
    drop(recorder);
    assert_eq!(tally.bytes(), 3);
    let (nothing, _recording, _) = record(Script::of(&[]).declaring(0));
    assert_eq!(nothing.tally().bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_end_is_woken_by_it_and_not_by_a_chunk() {
    let (mut recorder, recording, _) = record(Script::of(&["ab", "c"]).declaring(3));
    let waits = tokio::spawn(async move {
        recording.ended().await;
        recording.outcome()
    });
    tokio::task::yield_now().await;
    assert!(poll(&mut recorder).is_ready());
    tokio::task::yield_now().await;
    assert!(!waits.is_finished());
    assert!(poll(&mut recorder).is_ready());
    let outcome = tokio::time::timeout(Duration::from_secs(1), waits).await;
    assert_eq!(outcome.unwrap().unwrap(), Outcome::Finished);
}

#[test]
fn trailers_of_requests_are_dropped() {
    let (mut recorder, recording, _) = record(Script::new([data("a"), Step::Trailers]));
    assert!(matches!(poll(&mut recorder), Poll::Ready(Some(Ok(frame))) if frame.is_data()));
    assert!(matches!(poll(&mut recorder), Poll::Ready(None)));
    assert_eq!(recording.outcome(), Outcome::Finished);
}

#[test]
fn law_2_a_body_that_does_not_end_leaves_no_tape() {
    let (mut recorder, recording, budget) = record(Script::of(&["a", "b"]));
    assert!(poll(&mut recorder).is_ready());
    assert!(budget.used() > 0);
    drop(recorder);
    assert_eq!(recording.outcome(), Outcome::Abandoned);
    assert!(recording.take_tape().is_none());
    assert_eq!(budget.used(), 0);

    let (mut recorder, recording, budget) = record(Script::new([data("a"), Step::Fail]));
    assert_eq!(drain(&mut recorder), (b"a".to_vec(), Some(BodyError::CallerGone)));
    assert_eq!(recording.outcome(), Outcome::Failed(BodyError::CallerGone));
    assert!(matches!(poll(&mut recorder), Poll::Ready(None)));
    drop(recorder);
    assert_eq!(recording.outcome(), Outcome::Failed(BodyError::CallerGone));
    assert!(recording.take_tape().is_none() && budget.used() == 0);
}

#[test]
fn law_2_a_body_that_is_too_long_goes_on_without_a_tape() {
    for declared in [None, Some(1025)] {
        let long = Bytes::from(vec![1; 1024]);
        let mut script = Script::new([Step::Data(long), data("x")]);
        script.declared = declared;
        let (mut recorder, recording, budget) = record(script);
        let (bytes, error) = drain(&mut recorder);
        assert_eq!((bytes.len(), error), (1025, None));
        assert_eq!(recording.outcome(), Outcome::TooLong);
        assert!(recording.take_tape().is_none() && budget.used() == 0);
    }
}

#[test]
fn law_3_a_body_of_one_frame_takes_its_own_size() {
    let script = Script::of(&["0123456789"]).declaring(10);
    let (mut recorder, recording, budget) = record(script);
    drain(&mut recorder);
    assert_eq!(budget.used(), 10);
    drop(recording);
    assert_eq!(budget.used(), 10);
    drop(recorder);
    assert_eq!(budget.used(), 0);
}

#[test]
fn law_3_all_tapes_share_the_memory() {
    let budget = budget(8, 12);
    let start = || Recorder::new(Script::of(&["12345678"]), LIMITS, &budget);
    let ((mut first, kept), (mut second, late)) = (start(), start());
    drain(&mut first);
    drain(&mut second);
    assert_eq!(
        (kept.outcome(), late.outcome()),
        (Outcome::Finished, Outcome::TooLong)
    );
    drop((first, kept));
    let (mut third, again) = start();
    drain(&mut third);
    assert_eq!(played(again.take_tape().unwrap()), b"12345678");
    assert_eq!(budget.used(), 0);
}

#[test]
fn law_3_a_tape_that_nobody_can_take_is_given_up() {
    let (mut recorder, recording, budget) = record(Script::of(&["a", "b", "c"]));
    assert!(poll(&mut recorder).is_ready() && budget.used() > 0);
    drop(recording);
    assert!(poll(&mut recorder).is_ready() && budget.used() == 0);
    assert_eq!(drain(&mut recorder), (b"c".to_vec(), None));
}

#[test]
fn law_4_the_declared_length_survives_and_binds() {
    let (mut recorder, _recording, _) = record(Script::of(&["ab", "c"]).declaring(3));
    assert_eq!(recorder.size_hint().exact(), Some(3));
    assert!(poll(&mut recorder).is_ready());
    assert_eq!(recorder.size_hint().exact(), Some(1));

    for script in [
        Script::of(&["ab"]).declaring(3),
        Script::of(&["ab"]).declaring(3).announcing_its_end(),
        Script::of(&["abcd"]).declaring(3),
    ] {
        let (mut recorder, recording, _) = record(script);
        assert_eq!(drain(&mut recorder).1, Some(BodyError::CallerGone));
        assert!(recording.take_tape().is_none());
    }
    let (recorder, _recording, _) = record(Script::of(&["ab"]));
    assert_eq!(recorder.size_hint().exact(), None);
}

#[test]
fn law_5_the_end_is_known_with_the_last_byte() {
    for script in [
        Script::of(&["ab", "c"]).declaring(3),
        Script::of(&["ab", "c"]).announcing_its_end(),
    ] {
        let (mut recorder, recording, _) = record(script);
        assert!(poll(&mut recorder).is_ready() && !recorder.is_end_stream());
        assert!(poll(&mut recorder).is_ready() && recorder.is_end_stream());
        assert_eq!(recording.outcome(), Outcome::Finished);
        drop(recorder);
        assert_eq!(played(recording.take_tape().unwrap()), b"abc");
    }
}

#[tokio::test(start_paused = true)]
async fn law_6_a_caller_who_pauses_too_long_is_cut() {
    let pause = |seconds| Step::Pause(Duration::from_secs(seconds));
    let (mut recorder, recording, budget) = record(Script::new([
        pause(29),
        data("a"),
        pause(29),
        data("b"),
        pause(31),
        data("c"),
    ]));
    let start = Instant::now();
    let mut next = async || std::future::poll_fn(|cx| Pin::new(&mut recorder).poll_frame(cx)).await;
    assert!(next().await.unwrap().is_ok() && next().await.unwrap().is_ok());
    assert_eq!(next().await.unwrap().unwrap_err(), BodyError::Stalled);
    let waited = start.elapsed().as_secs();
    assert!((88..=89).contains(&waited), "{waited}");
    assert!(next().await.is_none());
    assert_eq!(recording.outcome(), Outcome::Failed(BodyError::Stalled));
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn law_6_a_pause_of_upstream_is_not_the_callers() {
    let (mut recorder, recording, _) = record(Script::new([data("a"), Step::Pending, data("b")]));
    assert!(poll(&mut recorder).is_ready());
    assert!(poll(&mut recorder).is_pending());
    tokio::time::advance(Duration::from_hours(1)).await;
    assert_eq!(drain(&mut recorder), (b"b".to_vec(), None));
    assert_eq!(recording.outcome(), Outcome::Finished);
}

#[test]
fn law_6_a_body_at_hand_needs_no_timer() {
    // There is no runtime here that could give one.
    let (mut recorder, _recording, _) = record(Script::of(&["a", "b"]));
    assert_eq!(drain(&mut recorder).1, None);
}

#[test]
fn law_7_an_empty_body_costs_nothing() {
    for script in [Script::of(&[]).announcing_its_end(), Script::of(&[]).declaring(0)] {
        let (mut recorder, recording, budget) = record(script);
        assert!(recorder.is_end_stream());
        assert_eq!(recorder.size_hint().exact(), Some(0));
        assert_eq!(recording.outcome(), Outcome::Finished);
        assert!(matches!(poll(&mut recorder), Poll::Ready(None)));
        drop(recorder);
        assert!(played(recording.take_tape().unwrap()).is_empty());
        assert_eq!(budget.used(), 0);
    }
}

#[test]
fn an_empty_body_that_does_not_say_so_has_a_tape() {
    let (mut recorder, recording, _) = record(Script::of(&[]));
    assert_eq!(recorder.size_hint().exact(), None);
    assert_eq!(drain(&mut recorder), (Vec::new(), None));
    assert_eq!(recorder.size_hint().exact(), Some(0));
    assert_eq!(recording.outcome(), Outcome::Finished);
    assert!(recording.take_tape().unwrap().is_empty());
}

#[test]
fn a_body_over_its_limit_is_cut_before_the_chunk_that_crosses() {
    let limits = BodyLimits {
        max_body: Some(3),
        ..LIMITS
    };
    let budget = budget(100, 100);
    let (mut fits, recording) = Recorder::new(Script::of(&["ab", "c"]), limits, &budget);
    assert_eq!(drain(&mut fits), (b"abc".to_vec(), None));
    assert_eq!(recording.outcome(), Outcome::Finished);
    let (mut crosses, recording) = Recorder::new(Script::of(&["ab", "cd"]), limits, &budget);
    assert_eq!(drain(&mut crosses), (b"ab".to_vec(), Some(BodyError::TooLarge)));
    assert_eq!(recording.outcome(), Outcome::Failed(BodyError::TooLarge));
    assert!(limits.forbid(&Script::of(&[]).declaring(4)));
    assert!(!limits.forbid(&Script::of(&[]).declaring(3)) && !limits.forbid(&Script::of(&[])));
    assert!(!LIMITS.forbid(&Script::of(&[]).declaring(u64::MAX)));
}

#[test]
fn both_attempts_are_one_type() {
    let (recorder, recording, _) = record(Script::of(&["ab", "c"]).declaring(3));
    let mut first = RequestBody::First(Box::new(recorder));
    assert_eq!(first.size_hint().exact(), Some(3));
    assert_eq!(drain(&mut first), (b"abc".to_vec(), None));
    assert!(first.is_end_stream());
    let replay = recording.take_tape().unwrap().play();
    assert!(recording.take_tape().is_none());
    let mut second = RequestBody::<Script>::Again(replay);
    assert!(!second.is_end_stream());
    assert_eq!(second.size_hint().exact(), Some(3));
    assert_eq!(drain(&mut second), (b"abc".to_vec(), None));
    assert!(second.is_end_stream());
}

#[test]
fn a_replay_that_is_dropped_gives_its_memory_back() {
    let (mut recorder, recording, budget) = record(Script::of(&["a"]));
    drain(&mut recorder);
    let replay = recording.take_tape().unwrap().play();
    assert_ne!(budget.used(), 0);
    drop(replay);
    assert_eq!(budget.used(), 0);
}

/// A caller's body, and what becomes of it.
#[derive(Clone, Debug)]
struct Course {
    chunks: Vec<Vec<u8>>,
    declares: bool,
    announces: bool,
    trailers: bool,
    /// Polls before all is dropped, if it is.
    drop_after: Option<usize>,
    limits: (usize, usize),
    max_body: Option<u64>,
}

fn course() -> impl Strategy<Value = Course> {
    let chunk = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(any::<u8>(), 4000..9000),
    ];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let request = prop_oneof![0_usize..200, 0_usize..40_000];
    (
        prop::collection::vec(chunk, 0..8),
        flags,
        prop::option::weighted(0.2, 0_usize..8),
        (request, 0_usize..50_000),
        prop::option::weighted(0.2, 0_u64..20_000),
    )
        .prop_map(|(chunks, flags, drop_after, limits, max_body)| Course {
            chunks,
            declares: flags.0,
            announces: flags.1,
            trailers: flags.2,
            drop_after,
            limits,
            max_body,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn laws_1_to_3_hold_at_any_chunking(course in course()) {
        let sent = course.chunks.concat();
        let chunks = course.chunks.iter().cloned().map(|chunk| Step::Data(Bytes::from(chunk)));
        let mut script = Script::new(chunks.chain(course.trailers.then_some(Step::Trailers)));
        script.declared = course.declares.then_some(sent.len() as u64);
        script.announces_end = course.announces;
        let (request, total) = course.limits;
        let budget = budget(request, total);
        let limits = BodyLimits { max_body: course.max_body, ..LIMITS };
        let (mut recorder, recording) = Recorder::new(script, limits, &budget);

        let mut first = Vec::new();
        let mut failure = None;
        let mut polls = 0;
        while !recorder.is_end_stream() && course.drop_after != Some(polls) {
            polls += 1;
            match poll(&mut recorder) {
                Poll::Ready(Some(Ok(frame))) => first.extend_from_slice(&frame.into_data().unwrap()),
                Poll::Ready(Some(Err(error))) => failure = Some(error),
                Poll::Ready(None) => break,
                Poll::Pending => prop_assert!(false, "all is at hand"),
            }
            prop_assert!(budget.used() <= request.min(total));
        }
        let ended = recorder.is_end_stream() && failure.is_none();
        drop(recorder);

        prop_assert!(sent.starts_with(&first));
        let too_large = course.max_body.is_some_and(|max| sent.len() as u64 > max);
        let tape = recording.take_tape();
        match recording.outcome() {
            Outcome::Finished => {
                prop_assert!(ended && tape.is_some());
                prop_assert_eq!(&first, &sent);
                prop_assert!(sent.len() <= request.min(total));
            }
            Outcome::TooLong => {
                prop_assert!(ended);
                prop_assert_eq!(&first, &sent);
                prop_assert!(sent.len() > request.min(total));
            }
            Outcome::Failed(error) => {
                prop_assert_eq!((Some(error), error), (failure, BodyError::TooLarge));
                prop_assert!(too_large);
            }
            Outcome::Abandoned => prop_assert!(!ended && failure.is_none() && course.drop_after.is_some()),
            Outcome::InProgress => prop_assert!(false, "it is dropped"),
        }
        prop_assert_eq!(tape.is_some(), recording.outcome() == Outcome::Finished);
        if let Some(tape) = tape {
            prop_assert_eq!(&*tape.contents(), &sent);
            prop_assert_eq!(played(tape), sent);
        } else {
            prop_assert_eq!(budget.used(), 0);
        }
        drop(recording);
        prop_assert_eq!(budget.used(), 0);
    }
}
