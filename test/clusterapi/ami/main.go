// Command ami looks for an AMI as Cluster API's AWS provider does for a machine
// that names none: with the provider's own code.
//
// What comes in is an AWSCluster's imageLookup fields and a Kubernetes version, as
// flags, and EC2's address and credentials in AWS's environment variables; what
// goes out is the ID that machines would be made of, and the root device whose
// size the provider sets.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	capa "sigs.k8s.io/cluster-api-provider-aws/v2/pkg/cloud/services/ec2"
)

func main() {
	format := flag.String("format", "", "imageLookupFormat")
	owner := flag.String("org", "", "imageLookupOrg")
	baseOS := flag.String("base-os", "", "imageLookupBaseOS")
	version := flag.String("kubernetes", "", "spec.version of the Machine")
	architecture := flag.String("architecture", capa.DefaultArchitectureTag, "of the instance type")
	flag.Parse()
	c, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	image, err := capa.DefaultAMILookup(ec2.NewFromConfig(c), *owner, *baseOS, *version, *architecture, *format)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(aws.ToString(image.ImageId), aws.ToString(image.RootDeviceName))
}
