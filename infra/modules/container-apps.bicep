metadata name = 'Container Apps'
metadata description = 'The environment, the worker that scales with the queue of commands, and the scheduler as a job of every minute.'

@description('Required. Begin of the names of environment, worker and scheduler.')
param name string

@description('Optional. Region.')
param location string = resourceGroup().location

@description('Optional. Tags.')
param tags object = {}

@description('Required. Identities of the worker. The first one is also the scheduler\'s; it pulls the image, reads the log key and counts messages.')
param managedIdentities { userAssignedResourceIds: string[] }

@description('Required. Image with registry and tag.')
param image string

@description('Required. Resource id of the Log Analytics workspace.')
param workspaceResourceId string

@description('Required. Settings of all containers, by variable.')
param environmentVariables object

@description('Optional. Address of the secret with the log key; empty: none.')
param logKeySecretUri string = ''

@description('Optional. Roles of the worker container, comma-separated. With api it gets an ingress.')
param workerRoles string = 'worker,scheduler'

@description('Required. Name of the Service Bus namespace, without its domain.')
param serviceBusNamespaceName string

@description('Optional. Name that KEDA has for the cloud.')
param kedaCloud string = 'AzurePublicCloud'

@description('Optional. Workers that always run.')
@minValue(1)
param minReplicas int = 1

@description('Optional. Orders in line for which one more worker is started. Each group has one a minute, and a worker does some hundreds of quiet groups in that time.')
param ordersPerWorker int = 100

@description('Optional. Workers at the most.')
@minValue(1)
param maxReplicas int = 5

@description('Optional. Resource id of the subnet of the environment; empty: the environment is in no network of yours.')
param subnetResourceId string = ''

var workerIdentity = managedIdentities.userAssignedResourceIds[0]
var registries = [
  {
    server: split(image, '/')[0]
    identity: workerIdentity
  }
]
var secrets = empty(logKeySecretUri)
  ? []
  : [
      {
        name: 'log-key'
        keyVaultUrl: logKeySecretUri
        identity: workerIdentity
      }
    ]
var env = concat(
  map(items(environmentVariables), variable => { name: variable.key, value: variable.value }),
  empty(logKeySecretUri) ? [] : [{ name: 'TIDEMARK_LOG_KEY', secretRef: 'log-key' }]
)
var port = 8080
var workloadProfile = 'Consumption'

resource environment 'Microsoft.App/managedEnvironments@2025-01-01' = {
  name: 'cae-${name}'
  location: location
  tags: tags
  properties: {
    // Logs go where the diagnostic setting says: without a key of the workspace, and into the table ContainerAppConsoleLogs.
    appLogsConfiguration: {
      destination: 'azure-monitor'
    }
    vnetConfiguration: empty(subnetResourceId)
      ? null
      : {
          infrastructureSubnetId: subnetResourceId
          internal: true
        }
    workloadProfiles: [
      {
        name: workloadProfile
        workloadProfileType: 'Consumption'
      }
    ]
  }
}

resource environmentLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'workspace'
  scope: environment
  properties: {
    logs: [
      {
        category: 'ContainerAppConsoleLogs'
        enabled: true
      }
      {
        category: 'ContainerAppSystemLogs'
        enabled: true
      }
    ]
    workspaceId: workspaceResourceId
  }
}

resource worker 'Microsoft.App/containerApps@2025-01-01' = {
  name: 'ca-${name}-worker'
  location: location
  tags: tags
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: toObject(managedIdentities.userAssignedResourceIds, id => id, id => {})
  }
  properties: {
    environmentId: environment.id
    workloadProfileName: workloadProfile
    configuration: {
      activeRevisionsMode: 'Single'
      ingress: contains(workerRoles, 'api')
        ? {
            allowInsecure: false
            external: true
            targetPort: port
            transport: 'http'
          }
        : null
      registries: registries
      secrets: secrets
    }
    template: {
      containers: [
        {
          name: 'worker'
          image: image
          command: ['node', 'src/hosting/container.ts']
          env: concat(env, [
            { name: 'TIDEMARK_ROLES', value: workerRoles }
            { name: 'TIDEMARK_DRAIN_SECONDS', value: '60' }
          ])
          probes: [
            {
              type: 'Liveness'
              httpGet: {
                path: '/health/live'
                port: port
              }
              initialDelaySeconds: 10
              periodSeconds: 10
              timeoutSeconds: 5
              failureThreshold: 6
            }
            {
              type: 'Readiness'
              httpGet: {
                path: '/health/ready'
                port: port
              }
              periodSeconds: 10
              timeoutSeconds: 5
              failureThreshold: 3
            }
          ]
          resources: {
            cpu: json('1.0')
            memory: '2Gi'
          }
        }
      ]
      scale: {
        minReplicas: minReplicas
        maxReplicas: maxReplicas
        rules: [
          {
            name: 'commands'
            custom: {
              type: 'azure-servicebus'
              identity: workerIdentity
              metadata: {
                queueName: 'commands'
                namespace: serviceBusNamespaceName
                messageCount: '${ordersPerWorker}'
                cloud: kedaCloud
              }
            }
          }
        ]
      }
      // A worker drains for 60 seconds after SIGTERM; then leases are given back.
      terminationGracePeriodSeconds: 75
    }
  }
}

resource scheduler 'Microsoft.App/jobs@2025-01-01' = {
  name: 'caj-${name}-scheduler'
  location: location
  tags: tags
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${workerIdentity}': {}
    }
  }
  properties: {
    environmentId: environment.id
    workloadProfileName: workloadProfile
    configuration: {
      registries: registries
      replicaRetryLimit: 0
      replicaTimeout: 300
      scheduleTriggerConfig: {
        cronExpression: '* * * * *'
        parallelism: 1
        replicaCompletionCount: 1
      }
      secrets: secrets
      triggerType: 'Schedule'
    }
    template: {
      containers: [
        {
          name: 'scheduler'
          image: image
          command: ['node', 'bin/tidemark.js', 'scheduler', 'run', '--once']
          env: env
          resources: {
            cpu: json('0.25')
            memory: '0.5Gi'
          }
        }
      ]
    }
  }
}

@description('Resource id of the worker.')
output resourceId string = worker.id

@description('Name of the worker.')
output name string = worker.name

@description('Resource group of the worker.')
output resourceGroupName string = resourceGroup().name

@description('Region of the worker.')
output location string = worker.location
