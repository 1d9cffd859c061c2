use super::*;

/// Does `work` on `size` ranks that are threads.
fn on_ranks<T: Send>(size: usize, work: impl Fn(&Ranks) -> T + Sync) -> Vec<T> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    std::thread::scope(|scope| {
        let ranks: Vec<_> = (0..size)
            .map(|rank| {
                let place = Place { rank, size, local_rank: rank, local_size: 1, address: address.clone() };
                let work = &work;
                scope.spawn(move || {
                    let ranks = Ranks::join(place, false, &AtomicBool::new(false)).unwrap();
                    ranks.together(|ranks| Ok(work(ranks))).unwrap()
                })
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

#[test]
fn what_is_gathered_is_in_order_everywhere() {
    for all in on_ranks(3, |ranks| ranks.gather(tag("test"), &vec![7; ranks.rank()]).unwrap()) {
        assert_eq!(all, [vec![], vec![7], vec![7, 7]]);
    }
}

#[test]
fn sums_are_made_in_the_order_of_the_ranks() {
    // Of these, other orders have other sums.
    let term = |rank: usize, i: usize| [1e8f32, 1.0, -1e8][rank] + i as f32;
    let len = 2 * PIECE + 3;
    let expected: Vec<f32> = (0..len).map(|i| term(0, i) + term(1, i) + term(2, i)).collect();
    let sums = on_ranks(3, |ranks| {
        let mut values: Vec<f32> = (0..len).map(|i| term(ranks.rank(), i)).collect();
        ranks.sum(&mut values).unwrap();
        values
    });
    assert!(sums.iter().all(|sum| *sum == expected));
}

#[test]
fn ranks_that_differ_are_named() {
    let settings = |rank: usize| [("data", "same".to_string()), ("settings", (rank == 2).to_string())];
    for outcome in on_ranks(3, |ranks| ranks.agree(&settings(ranks.rank()))) {
        let message = outcome.unwrap_err().to_string();
        assert!(
            message.starts_with("rank 2 on ") && message.contains("differs from rank 0 in its settings"),
            "{message}"
        );
    }
    assert!(on_ranks(2, |ranks| ranks.agree(&settings(ranks.rank()))).iter().all(Result::is_ok));
}

#[test]
fn who_is_alone_waits_for_nobody() {
    let ranks = &ALONE;
    let mut values = [1.5f64];
    ranks.sum(&mut values).unwrap();
    assert_eq!(values, [1.5]);
    assert_eq!(ranks.gather(tag("test"), b"x").unwrap(), [b"x"]);
    assert!(ranks.agree(&[("data", "d".into())]).is_ok() && ranks.is_first() && ranks.is_alone());
}

/// What a measurement takes says nothing of the steps after it.
#[test]
fn the_pace_of_many_of_a_kind_is_theirs_alone() {
    let paces = on_ranks(2, |ranks| {
        let pace = || ranks.link.as_ref().unwrap().watch.pace().slowest();
        let pause = Duration::from_millis(20);
        let within = ranks.in_turn(|turn| {
            std::thread::sleep(pause);
            turn();
            pace()
        });
        let after = pace();
        ranks.stepped(1, pause);
        (within >= pause, after.is_zero(), pace() == pause)
    });
    assert_eq!(paces, [(true, true, true); 2]);
}
