//! Power cuts: whatever was acknowledged is on the disk at that moment.
//!
//! The data directory is a file system in a file. While clients write, the server is stopped between two
//! instructions, what its disk holds at that moment is kept, everything else is thrown away, and a server starts on it.
//! Its clients know what they were told, and that one request each was under way.

use std::time::Duration;

use test_support::{Disk, Server};

use crate::shelf::{Client, Random, Shelf};

const CLIENTS: u64 = 4;

#[test]
fn nothing_acknowledged_is_lost_in_fifty_power_cuts() {
    power_cuts("ext4", 256, 50);
}

#[test]
#[ignore = "long: a thousand power cuts"]
fn nothing_acknowledged_is_lost_in_a_thousand_power_cuts_on_ext4() {
    power_cuts("ext4", 4096, 1000);
}

#[test]
#[ignore = "long: a thousand power cuts"]
fn nothing_acknowledged_is_lost_in_a_thousand_power_cuts_on_xfs() {
    power_cuts("xfs", 4096, 1000);
}

fn power_cuts(filesystem: &str, mebibytes: u64, cuts: u64) {
    let builder = Server::builder();
    let disk = Disk::format(filesystem, mebibytes, builder.data());
    // The disk goes after the server that writes to it.
    let (mut disk, mut server) = (disk, builder.start());
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut shelves: Vec<Shelf> = (0..CLIENTS).map(|client| Shelf::new(client, random.next())).collect();
    for cut in 0..cuts {
        let unsynced = server.data().join(format!("unsynced-{cut}"));
        let picture = std::thread::scope(|scope| {
            for shelf in &mut shelves {
                let client = Client::new(&server);
                scope.spawn(move || shelf.work(&client, u64::MAX));
            }
            std::thread::sleep(Duration::from_millis(random.below(300)));
            // What a cut takes away: bytes that nobody asked to be kept.
            std::fs::write(&unsynced, b"never to be seen").unwrap();
            server.process().pause();
            let picture = disk.cut_power();
            server.kill();
            picture
        });
        disk.restore_power(picture);
        let kept = std::fs::read(&unsynced).unwrap_or_default();
        assert!(kept.is_empty(), "the cut took nothing away");
        server.start_again();
        let client = Client::new(&server);
        for shelf in &mut shelves {
            shelf.settle(&client);
            shelf.check(&client, &mut random);
        }
    }
    let made: u64 = shelves.iter().map(|shelf| shelf.acknowledged).sum();
    let refused: u64 = shelves.iter().map(|shelf| shelf.refused).sum();
    println!("{filesystem}: {cuts} power cuts, {made} acknowledged changes, all there; {refused} refused");
    assert!(made > cuts && made > 10 * refused);
    server.stop();
    drop((server, disk));
}
