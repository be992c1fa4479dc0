use std::sync::{Arc, Mutex};

use super::super::script::{Script, Step, data, drain, poll};
use super::*;

/// What was told at the end, each time.
type Told = Arc<Mutex<Vec<End>>>;

fn meter(script: Script) -> (Metered<Script, impl AtEnd + Unpin>, Told) {
    let told = Told::default();
    let ends = Arc::clone(&told);
    let metered = Metered::new(script, Duration::from_mins(2), move |end| {
        ends.lock().unwrap().push(end);
    });
    (metered, told)
}

/// Drains as hyper does, drops, and gives the error and the one end that was told.
fn run(script: Script) -> (Option<String>, End) {
    let (mut metered, told) = meter(script);
    let (bytes, error) = drain(&mut metered);
    assert!(told.lock().unwrap().is_empty());
    drop(metered);
    let told = told.lock().unwrap();
    assert_eq!((told.len(), told[0].bytes), (1, bytes.len() as u64));
    (error.map(|error| error.to_string()), told[0])
}

#[test]
fn a_whole_answer_is_complete() {
    for script in [
        Script::of(&["ab", "c"]),
        Script::of(&["ab", "c"]).declaring(3),
        Script::of(&["ab", "c"]).announcing_its_end(),
        Script::of(&["ab", "c"]).declaring(3).announcing_its_end(),
        Script::new([data("abc"), Step::Trailers]),
        Script::new([data("abc"), Step::Trailers]).declaring(3),
    ] {
        let ending = Ending::Complete;
        assert_eq!(run(script), (None, End { ending, bytes: 3 }));
    }
}

#[test]
fn an_answer_that_is_never_asked_for_is_complete_where_it_is_empty() {
    for (script, ending) in [
        (Script::of(&[]).declaring(0), Ending::Complete),
        (Script::of(&[]).announcing_its_end(), Ending::Complete),
        (Script::of(&[]), Ending::CallerGone),
        (Script::of(&["a"]).declaring(1), Ending::CallerGone),
    ] {
        let (metered, told) = meter(script);
        drop(metered);
        assert_eq!(*told.lock().unwrap(), [End { ending, bytes: 0 }]);
    }
}

#[test]
fn nobody_asks_again_after_a_declared_length() {
    let (mut metered, told) = meter(Script::of(&["ab", "c"]).declaring(3));
    assert!(poll(&mut metered).is_ready() && poll(&mut metered).is_ready());
    drop(metered);
    assert_eq!(told.lock().unwrap()[0].ending, Ending::Complete);
}

#[test]
fn nobody_asks_again_after_trailers() {
    for (declared, ending) in [(3, Ending::Complete), (4, Ending::CallerGone)] {
        let (mut metered, told) = meter(Script::new([data("abc"), Step::Trailers]).declaring(declared));
        assert!(poll(&mut metered).is_ready() && poll(&mut metered).is_ready());
        drop(metered);
        assert_eq!(*told.lock().unwrap(), [End { ending, bytes: 3 }]);
    }
    let (mut metered, told) = meter(Script::new([Step::Trailers]));
    assert!(poll(&mut metered).is_ready());
    drop(metered);
    assert_eq!(told.lock().unwrap()[0].ending, Ending::Complete);
}

#[test]
fn an_error_is_told_before_the_end_and_nothing_after_it() {
    for steps in [
        vec![data("ab"), Step::Fail],
        vec![data("ab"), Step::Fail, data("c")],
    ] {
        let (mut metered, _) = meter(Script::new(steps).announcing_its_end());
        assert!(poll(&mut metered).is_ready() && poll(&mut metered).is_pending());
        assert!(!metered.is_end_stream());
        assert!(matches!(poll(&mut metered), Poll::Ready(Some(Err(_)))));
        assert!(metered.is_end_stream());
        assert!(matches!(poll(&mut metered), Poll::Ready(None)));
    }
}

#[test]
fn trailers_pass() {
    let (mut metered, _) = meter(Script::new([Step::Trailers]));
    let Poll::Ready(Some(Ok(frame))) = poll(&mut metered) else {
        panic!("trailers are at hand")
    };
    assert_eq!(frame.into_trailers().unwrap()["x-sum"], "1");
}

#[test]
fn law_4_an_answer_that_ends_early_is_cut() {
    let cut = |bytes| End {
        ending: Ending::Cut,
        bytes,
    };
    let (error, end) = run(Script::new([data("ab"), Step::Fail, data("c")]));
    assert_eq!(end, cut(2));
    assert_eq!(
        error.unwrap(),
        "the connection to upstream died within its answer"
    );
    let (error, end) = run(Script::of(&["ab"]).declaring(3));
    assert_eq!(end, cut(2));
    assert_eq!(error.unwrap(), "the answer ended before its declared length");
    let (error, end) = run(Script::of(&["ab"]).declaring(3).announcing_its_end());
    assert_eq!(
        (error.is_some(), end.ending),
        (true, Ending::Cut),
        "however it is announced"
    );
    let (error, end) = run(Script::new([data("ab"), Step::Trailers]).declaring(3));
    assert_eq!((error.is_some(), end), (true, cut(2)));
    let (error, end) = run(Script::new([data("abc"), Step::Fail]));
    assert_eq!((error.is_some(), end), (true, cut(3)));
}

#[test]
fn law_4_the_declared_length_survives() {
    let (mut metered, _) = meter(Script::of(&["ab", "c"]).declaring(3));
    assert_eq!(metered.size_hint().exact(), Some(3));
    assert!(poll(&mut metered).is_ready());
    assert_eq!(
        (metered.size_hint().exact(), metered.is_end_stream()),
        (Some(1), false)
    );
}

#[test]
fn a_caller_who_leaves_is_told_apart() {
    let (mut metered, told) = meter(Script::of(&["ab", "c"]));
    assert!(poll(&mut metered).is_ready());
    drop(metered);
    let ending = Ending::CallerGone;
    assert_eq!(*told.lock().unwrap(), [End { ending, bytes: 2 }]);
}

#[tokio::test(start_paused = true)]
async fn law_6_an_upstream_that_pauses_too_long_is_cut() {
    let pause = |seconds| Step::Pause(Duration::from_secs(seconds));
    let (mut metered, told) = meter(Script::new([pause(119), data("a"), pause(121), data("b")]));
    let mut next = async || std::future::poll_fn(|cx| Pin::new(&mut metered).poll_frame(cx)).await;
    assert!(next().await.unwrap().is_ok());
    assert!(matches!(next().await, Some(Err(AnswerError::Stalled))));
    assert!(next().await.is_none());
    drop(metered);
    let ending = Ending::Cut;
    assert_eq!(*told.lock().unwrap(), [End { ending, bytes: 1 }]);
}

#[tokio::test(start_paused = true)]
async fn law_6_a_caller_who_reads_slowly_does_not_cut_upstream() {
    let (mut metered, _) = meter(Script::new([data("a"), Step::Pending, data("b")]));
    assert!(poll(&mut metered).is_ready() && poll(&mut metered).is_pending());
    tokio::time::advance(Duration::from_hours(1)).await;
    assert!(matches!(poll(&mut metered), Poll::Ready(Some(Ok(_)))));
}
