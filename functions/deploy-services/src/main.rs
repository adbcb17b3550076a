//! The Lambda function `deploy-services`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    shared::lambda::serve(deploy_services::handle).await
}
