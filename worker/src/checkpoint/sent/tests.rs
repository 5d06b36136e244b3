use super::super::testing::{fresh, meta, recipe, state};
use super::*;

fn sent(state: &TrainState) -> (StateHeader, Vec<u8>) {
    (StateHeader::of(state, meta()), state.arrays().concat())
}

#[test]
fn a_state_survives_the_way_bit_for_bit() {
    for optim in ["adamw_torch", "adamw_8bit"] {
        let recipe = recipe(optim);
        let expected = state(&recipe);
        let (header, arrays) = sent(&expected);
        let header = StateHeader::parse(&header.to_bytes()).unwrap();
        let mut found = fresh(&recipe);
        found.optimizer.set_updates(0);
        take_over(&header, &arrays, &mut found).unwrap();
        assert_eq!(found, expected, "{optim}");
        assert_eq!(header.meta, meta());
    }
}

#[test]
fn a_bit_that_is_lost_on_the_way_is_found() {
    let recipe = recipe("adamw_8bit");
    let (header, mut arrays) = sent(&state(&recipe));
    let middle = arrays.len() / 2;
    arrays[middle] ^= 4;
    let error = take_over(&header, &arrays, &mut fresh(&recipe)).unwrap_err();
    assert!(
        matches!(error, CheckpointError::SentState { .. }),
        "{error}"
    );
}

#[test]
fn the_state_of_another_optimizer_is_refused() {
    let (header, arrays) = sent(&state(&recipe("adamw_torch")));
    let error = take_over(&header, &arrays, &mut fresh(&recipe("adamw_8bit"))).unwrap_err();
    let CheckpointError::SentSize { found, expected } = error else {
        panic!("{error}");
    };
    assert!(found == arrays.len() && expected < found);
}

#[test]
fn what_is_no_header_is_refused() {
    for bytes in [&b""[..], b"{}", b"\xff\xfe"] {
        assert!(StateHeader::parse(bytes).is_err());
    }
}
