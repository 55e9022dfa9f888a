"""Start, adopt and end the processes of attempts. Knows neither the job table nor gRPC."""
