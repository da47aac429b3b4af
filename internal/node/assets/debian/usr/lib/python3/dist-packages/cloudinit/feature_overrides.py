# Bootstrap data may include a file that a boothook has yet to fetch (Cluster
# API on AWS): a part that can't be read must not end the rest of user data.
ERROR_ON_USER_DATA_FAILURE = False
