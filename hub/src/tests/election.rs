//! Who leads.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::DeleteParams;
use tokio_util::sync::CancellationToken;

use super::fake_api::FakeApi;
use crate::leader::{Elector, LEASE_NAME};

fn none() -> i64 {
    0
}

#[tokio::test(start_paused = true)]
async fn another_hub_leads_only_when_the_lease_has_run_out() {
    let api = FakeApi::new();
    let mut first = Elector::new(api.client(), "isthmus", None);
    let mut second = Elector::new(api.client(), "isthmus", None);
    let term = first.campaign(none).await;
    assert_eq!(term.fence(), 1);
    // The first is not heard of again: no renewal, no release.
    let begun = tokio::time::Instant::now();
    let next = second.campaign(none).await;
    assert!(begun.elapsed() > Duration::from_secs(15), "it was respected for {:?} only", begun.elapsed());
    assert_eq!(next.fence(), 2);
    assert!(term.check().is_err(), "the first has stopped by itself before");
    assert!(next.check().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_renewed_is_kept() {
    let api = FakeApi::new();
    let mut first = Elector::new(api.client(), "isthmus", None);
    let mut second = Elector::new(api.client(), "isthmus", None);
    let term = first.campaign(none).await;
    let stop = CancellationToken::new();
    let hold = first.hold(&term, &stop);
    let rival = tokio::time::timeout(Duration::from_mins(2), second.campaign(none));
    tokio::select! {
        () = hold => panic!("it was lost"),
        outcome = rival => assert!(outcome.is_err(), "the rival leads"),
    }
    assert!(term.check().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_ends_in_order_gives_the_lease_back() {
    let api = FakeApi::new();
    let mut first = Elector::new(api.client(), "isthmus", None);
    first.campaign(none).await;
    first.release().await.unwrap();
    let begun = tokio::time::Instant::now();
    let next = Elector::new(api.client(), "isthmus", None).campaign(none).await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(next.fence(), 2);
    first.release().await.unwrap();
    assert!(next.check().is_ok(), "what is not its own any more it does not give back");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_starts_again_takes_up_its_lead_at_once() {
    let api = FakeApi::new();
    let mut first = Elector::new(api.client(), "isthmus", Some("hub-0"));
    let term = first.campaign(none).await;
    let begun = tokio::time::Instant::now();
    let mut again = Elector::new(api.client(), "isthmus", Some("hub-0"));
    assert_eq!(again.campaign(none).await.fence(), 2);
    assert!(begun.elapsed() < Duration::from_secs(1));
    // Should the former process live after all, it notices.
    tokio::time::timeout(Duration::from_secs(5), first.hold(&term, &CancellationToken::new())).await.unwrap();
    assert!(term.check().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_deleted_lease_does_not_turn_the_fence_back() {
    let api = FakeApi::new();
    let mut first = Elector::new(api.client(), "isthmus", None);
    let term = first.campaign(none).await;
    let leases: Api<Lease> = Api::namespaced(api.client(), "isthmus");
    leases.delete(LEASE_NAME, &DeleteParams::default()).await.unwrap();
    let next = Elector::new(api.client(), "isthmus", None).campaign(|| 41).await;
    assert_eq!(next.fence(), 42);
    tokio::time::timeout(Duration::from_secs(30), first.hold(&term, &CancellationToken::new()))
        .await
        .unwrap();
    assert!(term.check().is_err());
}
