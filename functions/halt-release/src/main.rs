//! The Lambda function `halt-release`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    shared::lambda::serve(halt_release::handle).await
}
