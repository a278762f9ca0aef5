SELECT * FROM api_token_create('created', 'key', '{"seats": 5}', '{orders.read}');
