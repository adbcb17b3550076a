//! The Lambda function `launch-workers`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    shared::lambda::serve(launch_workers::handle).await
}
